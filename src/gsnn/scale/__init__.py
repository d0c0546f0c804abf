"""Scaling laws, and plans for machines that nobody here has. Arithmetic: no network is built to plan one."""
