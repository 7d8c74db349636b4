"""How the parts are started together: command line, settings, composition roots, supervisor."""
