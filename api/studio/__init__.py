"""The Studio: the page at /studio. Its sources are in `web`, what is served is built from them into `bundle`."""
