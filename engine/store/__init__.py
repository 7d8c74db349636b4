"""Items of the store as the api and graphs use them: reads, filters, texts to embed, commands to write them."""
