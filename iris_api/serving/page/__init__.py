"""The pages for people: HTML, styles and scripts as they are served, and their routes.

They know the service through its own HTTP calls and `page.json` alone.
"""
