"""Who may see and do what: passwords, sessions, the guard before every page."""
