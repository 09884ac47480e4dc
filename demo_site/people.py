"""Who may sign in to the demo."""

PASSWORD = "box-office"
BOSS = "boss"  # of the staff: the status page and the admin; has no account to pay from
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj")
