"""The same model behind each tool. These modules run in the tools' environments, which have none of our packages."""
