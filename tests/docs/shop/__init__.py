"""The site that the manual's examples belong to; its modules other than the models are in the manual."""
