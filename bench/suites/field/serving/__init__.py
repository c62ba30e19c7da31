"""The same model behind each of the others. These modules run in their environments, which have nothing of ours."""
