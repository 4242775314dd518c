"""The words of OpenAI's APIs."""
