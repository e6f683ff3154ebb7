"""An operator's orders, carried out by the running daemon or without one."""
