"""The defences of secrets: what prints, dispatches or asks for one meets."""

from __future__ import annotations

from defence import row

_MASKING, _GRANTS = "tests/test_masking.py", "tests/attacks/test_grants.py"
_PLACES = f"{_MASKING}::test_every_text_of_a_result_is_masked"
_WRITTEN = f"{_MASKING}::test_a_secret_is_hidden_however_it_is_written"

DEFENCES = (
    row(
        "a secret in an error",
        "masking.py:masked",
        _PLACES,
        "mask(text, secrets) if text else text for text in result.errors",
        "text for text in result.errors",
    ),
    row(
        "a secret in a message, printed or logged",
        "masking.py:masked",
        _PLACES,
        "mask(text, secrets) if text else text for text in result.outputs",
        "text for text in result.outputs",
    ),
    row(
        "a secret in an event's type or stack",
        "masking.py:_masked_event",
        _PLACES,
        "type=mask(event.type.encode(), secrets).decode(),",
        "type=event.type,",
    ),
    row(
        "a secret in a dispatched payload",
        "masking.py:_masked_event",
        f"{_MASKING}::test_a_dispatched_payload_stays_json",
        "_masked_json(event.data, secrets) if",
        "event.data if",
    ),
    row(
        "a secret as a dispatched event's id",
        "masking.py:_masked_event",
        f"{_MASKING}::test_an_id_that_is_a_secret_fails_the_run",
        "if event.id is not None and",
        "if False and",
    ),
    row(
        "base64 of a secret",
        "secret_forms.py:forms",
        f"{_WRITTEN}[token-base64 of a user and a password]",
        ", *_base64_forms(secret)",
        ", *()",
    ),
    row(
        "a secret in JSON's, URLs' or HTML's escapes",
        "secret_forms.py:views",
        f"{_WRITTEN}[awkward-JSON in JSON]",
        "unescaped = view.unescaped()",
        "unescaped = view",
    ),
    row(
        "a secret that a limit cuts in two",
        "masking.py:_cut_off",
        f"{_MASKING}::test_the_beginning_of_a_secret_is_hidden_where_a_limit_cut_it_off",
        "    for end in cuts:\n",
        "    for end in ():\n",
    ),
    row(
        "the secret of another hook",
        "modules/secret.py:_permitted",
        f"{_GRANTS}::test_a_secret_of_another_hook_is_refused",
        "if not any(fnmatchcase(wanted, granted) for granted in call.grants.secrets):",
        "if False:",
    ),
    row(
        "a granted name, taken by another stack",
        "../policy.py:grants",
        f"{_GRANTS}::test_a_hook_of_another_stack_under_a_granted_name_is_refused",
        "if self.hooks_of.get(hook, stack) == stack else {}",
        "",
    ),
    row(
        "a secret's name that is a path",
        "../store/secrets.py:check_name",
        f"{_GRANTS}::test_a_name_that_leads_out_of_the_credentials_is_none",
        "if not _NAME.fullmatch(name):",
        "if False:",
    ),
    row(
        "the key of all secrets as a secret",
        "../store/secrets.py:check_name",
        "tests/test_module_secret.py::test_the_products_own_credentials_are_no_secrets_of_hooks",
        "if name in RESERVED:",
        "if False:",
    ),
    row(
        "the database's password in the environment",
        "modules/env.py:is_own_secret",
        "tests/test_module_env.py::test_attack_the_databases_password_by_another_name",
        "holds_one or _OWN_SECRETS",
        "_OWN_SECRETS",
    ),
)
