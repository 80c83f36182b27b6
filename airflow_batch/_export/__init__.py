"""Campaigns and their statistics as files that a warehouse loads: tables, files, and the run that writes them."""
