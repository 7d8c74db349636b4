"""The application's own routes and middleware (`http.app`), ASGI or aiohttp, beside and around the api's."""
