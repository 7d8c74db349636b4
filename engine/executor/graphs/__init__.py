"""The application's graphs: imported, described and registered."""
