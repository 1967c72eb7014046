"""The page ``report.html`` with every verdict, table and figure."""
