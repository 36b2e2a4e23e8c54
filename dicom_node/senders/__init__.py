"""Ways to hand an object to another system: C-STORE and STOW-RS behind one contract."""
