"""The report of the data as one HTML page that needs no network; page.py makes it from report.json."""
