"""The console's forms. They check shapes; whether a thing may be done is for the actions."""

from typing import Any

from django import forms

from steward.accounts.models import User, Workspace
from steward.accounts.policy import RULES
from steward.accounts.roles import Permission, Role
from steward.accounts.tokens import DEFAULT_LIFETIME_DAYS, MAX_LIFETIME_DAYS
from steward.datasets.erasure_actions import ERASURE_GROUNDS
from steward.runs.claims import Priority
from steward.runs.dispatch_actions import MOST_HOURS, MOST_RUNS


class NewPerson(forms.Form):
    username = forms.RegexField(
        r"^[\w.@+-]+$", max_length=150, label="User name", help_text="Letters, digits and . @ + - _"
    )
    display_name = forms.CharField(max_length=120, required=False, label="Name")
    email = forms.EmailField(required=False, label="E-mail")
    is_administrator = forms.BooleanField(
        required=False,
        label="Administrator of the installation",
        help_text="Keeps people and workspaces, sees no data.",
    )


class NewWorkspace(forms.Form):
    name = forms.CharField(max_length=120)
    slug = forms.SlugField(max_length=60, label="Short name", help_text="In addresses; letters, digits and hyphens.")
    domain = forms.ChoiceField()

    def __init__(self, *args: Any, domains: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["domain"].choices = [(name, name.capitalize()) for name in domains]  # type: ignore[attr-defined]


class Grant(forms.Form):
    workspace = forms.ModelChoiceField(Workspace.objects.none())
    user = forms.ModelChoiceField(User.objects.none(), label="Person")
    role = forms.ChoiceField(choices=Role.choices)

    def __init__(self, *args: Any, workspaces: Any, people: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["workspace"].queryset = workspaces  # type: ignore[attr-defined]
        self.fields["user"].queryset = people  # type: ignore[attr-defined]


class PolicyForm(forms.Form):
    """One field for each rule of `accounts.policy`, with its range and its reason."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, rule in RULES.items():
            if name.startswith(("is_", "has_")):
                self.fields[name] = forms.BooleanField(required=False, label=rule.title, help_text=rule.reason)
            else:
                span = f"{rule.reason} {rule.low:,} to {rule.high:,} {rule.unit}."
                self.fields[name] = forms.IntegerField(
                    min_value=rule.low, max_value=rule.high, label=rule.title, help_text=span
                )


class AllowanceForm(forms.Form):
    device_hours_per_month = forms.IntegerField(
        min_value=0,
        max_value=MOST_HOURS,
        required=False,
        label="Device hours a month",
        help_text="In a calendar month, UTC. What runs when they are used up goes on; what waits starts next month. "
        "0 is none at all; empty is no limit.",
    )
    runs_at_once = forms.IntegerField(
        min_value=1, max_value=MOST_RUNS, required=False, label="Runs at once", help_text="Empty is no limit."
    )


class PriorityForm(forms.Form):
    priority = forms.ChoiceField(
        choices=Priority.choices,
        help_text="High goes before normal, normal before low; what has waited for a day goes before all.",
    )


class ErasureForm(forms.Form):
    subject = forms.CharField(
        max_length=1000,
        strip=False,
        label="Person",
        help_text="The value of the subject column, letter by letter.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    ground = forms.ChoiceField(choices=[("", "Choose"), *ERASURE_GROUNDS.items()], help_text="GDPR article 17(1).")
    is_sure = forms.BooleanField(label="It cannot be undone, and is to be done")


class NewToken(forms.Form):
    name = forms.CharField(max_length=80, help_text="Says where the token is used.")
    lifetime_days = forms.IntegerField(
        min_value=1, max_value=MAX_LIFETIME_DAYS, initial=DEFAULT_LIFETIME_DAYS, label="Days until it ends"
    )
    scopes = forms.MultipleChoiceField(
        choices=[(str(each), str(each)) for each in Permission], widget=forms.CheckboxSelectMultiple
    )
