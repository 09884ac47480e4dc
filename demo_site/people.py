"""Who may sign in to the demo."""

PASSWORD = "box-office"
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj")
