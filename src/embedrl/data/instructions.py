"""The standard instructions of items: what to do with a candidate, and what a query asks for. Our own wording.

Models are trained with these, so an index, a search and a benchmark that use the same words get the vectors they expect.
"""

from embedrl.media.content import Content, Text

DESCRIBE = {
    "image": "Describe the picture.",
    "video": "Describe the clip.",
    "page": "Describe the page.",
    "text": "Describe the text.",
}
"""For candidates, by kind of part."""
FIND = {
    "image": "Find the picture that fits the text.",
    "video": "Find the clip that fits the text.",
    "page": "Find the page that fits the text.",
    "text": "Find the text that fits the text.",
}
"""For text queries, by what is wanted."""
CAPTION = {
    "image": "Find a caption for the picture.",
    "video": "Find a caption for the clip.",
    "page": "Find a caption for the page.",
}
"""For queries that are one visual part."""
ANSWER = {
    "image": "Answer the question about the picture.",
    "video": "Answer the question about the clip.",
    "page": "Answer the question about the page.",
}
"""For queries that are a question about a visual part, by its kind."""
CHANGE = "Find the picture after this change."
"""For a picture or page with text."""
MOMENT = "Find the moment that is named."
"""For a video with text."""


def query_instruction(content: Content, wanted: str = "image") -> str:
    """Return the instruction of a query from its parts and the kind of part it looks for."""
    visual = next((part for part in content if not isinstance(part, Text)), None)
    if visual is None:
        return FIND[wanted]
    if not any(isinstance(part, Text) for part in content):
        return CAPTION[visual.kind]
    return MOMENT if visual.kind == "video" else CHANGE
