"""What `secondread doctor` looks at; each check is one function that never raises."""
