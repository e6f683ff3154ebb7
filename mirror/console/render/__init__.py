"""How pages are written: templates, numbers for people, and charts."""
