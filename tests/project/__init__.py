"""The project itself: its documentation, its deployment, and the tools of its tests."""
