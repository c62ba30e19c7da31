"""Everything HTTP that services share: hosting, middleware, API keys, problem responses, OpenAPI."""
