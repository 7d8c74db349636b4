"""HTTP itself: middleware, requests, responses, errors, limits, routes and their OpenAPI description."""
