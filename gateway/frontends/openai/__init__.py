"""OpenAI's APIs: chat completions, responses and models. Agents are models there."""
