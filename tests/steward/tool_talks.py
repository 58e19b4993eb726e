"""Conversations of a made-up clinic whose assistant books visits through tools; every identifier in them is known.

Example: `bookings(3)[0]["messages"][2]["tool_calls"][0]["function"]["name"]` is `find_slots`.
"""

import json
from typing import Any

#: A template that writes definitions, calls and results, as that of Qwen 2.5 does.
TEMPLATE = (
    "{% if tools %}<|start|>tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|end|>\n{% endif %}"
    "{% for m in messages %}{{ '<|start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "{{ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
PEOPLE = ("Imelda Quackenbush", "Ngozi Achterberg", "Thaddeus Vanderplank", "Rosalind Okonkwo-Brandt")


def identifiers(number: int) -> list[str]:
    """What of a record may be left nowhere: name, phone, e-mail, number of the medical record, date of birth."""
    name = PEOPLE[number % len(PEOPLE)]
    mail = f"{name.split()[0].lower()}.{number}@example.org"
    return [name, f"617-555-{1000 + number}", mail, f"{70_410_000 + number}", f"19{40 + number % 50}-03-1{number % 9}"]


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_slots",
            "description": "Free slots of a department. Ask Dr. Helen Marchetti if there are none.",
            "parameters": {
                "type": "object",
                "properties": {
                    "department": {"type": "string", "enum": ["cardiology", "dermatology"]},
                    "patient_phone": {"type": "string", "examples": ["617-555-0199"]},
                },
                "required": ["department"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "book_visit",
            "description": "Books a slot for a patient.",
            "parameters": {
                "type": "object",
                "properties": {
                    "slot": {"type": "integer"},
                    "patient": {"type": "object", "properties": {"name": {"type": "string"}}},
                },
                "required": ["slot", "patient"],
            },
        },
    },
]


def bookings(count: int) -> list[dict[str, Any]]:
    """Records in OpenAI's form, one a patient: a call, its result, a second call, its result, and the answer."""
    return [_booking(number) for number in range(count)]


def _booking(number: int) -> dict[str, Any]:
    name, phone, mail, record, born = identifiers(number)
    patient = {"name": name, "phone": phone, "mrn": record, "birth_date": born, "is_new": number % 2 == 0}
    found = {"slots": [{"id": 1 + number % 7, "doctor": "Dr. Helen Marchetti"}], "for": {"email": mail}}
    return {
        "patient_id": f"p{number}",
        "tools": TOOLS,
        "messages": [
            {"role": "system", "content": "You book visits."},
            {"role": "user", "content": f"I am {name}, please book cardiology {number}, my phone is {phone}."},
            _calls("a7", "find_slots", {"department": "cardiology", "patient_phone": phone}),
            {"role": "tool", "tool_call_id": "a7", "content": json.dumps(found)},
            _calls("b9", "book_visit", {"slot": 1 + number % 7, "patient": patient}),
            {"role": "tool", "tool_call_id": "b9", "content": f"Booked for Mrs. {name}; a note went to {mail}."},
            {"role": "assistant", "content": f"Booked, {name}."},
        ],
    }


def _calls(number: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": number, "type": "function", "function": function}],
    }
