"""The built-in questions, one TOML file each."""
