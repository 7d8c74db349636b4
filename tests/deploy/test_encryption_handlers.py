"""`encryption.path` and LANGGRAPH_AES_JSON_KEYS that can't be used: a sentence at start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from threadlog.deploy.compose.encryption import keyring_options, wrapper_of
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import BadSettings, Settings
from threadlog.engine.encryption.system_fields import NEVER_ENCRYPTED
from threadlog.engine.encryption.wrapping import WithHandlers, WithInstallationKey
from threadlog.engine.user_code.langgraph_json import ConfigError

BLOB = """
@encryption.encrypt.blob
async def encrypt(ctx, data):
    return data

@encryption.decrypt.blob
async def decrypt(ctx, data):
    return data
"""
JSON = BLOB.replace(".blob", ".json")
KEY = "0123456789abcdef"


def settings(folder: Path, module: str, *, name: str = "encryption", **more: object) -> Settings:
    (folder / "handlers.py").write_text(f"from langgraph_sdk import Encryption\nencryption = Encryption()\n{module}")
    (folder / "agent.py").write_text("graph = None\n")
    content = {"graphs": {"agent": "./agent.py:graph"}, "encryption": {"path": f"./handlers.py:{name}"}}
    (folder / "langgraph.json").write_text(json.dumps(content))
    return Settings.load(config=folder / "langgraph.json", **more)


async def test_the_handlers_are_those_that_encryption_path_names(tmp_path: Path) -> None:
    wrapper, handlers = await wrapper_of(settings(tmp_path, BLOB + JSON))
    assert isinstance(wrapper, WithHandlers) and handlers is not None and handlers.has_json
    assert keyring_options(settings(tmp_path, BLOB), handlers)["handlers"] is handlers


async def test_with_handlers_for_json_alone_the_key_encrypts_the_rest(tmp_path: Path) -> None:
    wrapper, handlers = await wrapper_of(settings(tmp_path, JSON, aes_key=KEY))
    assert isinstance(wrapper, WithInstallationKey) and handlers is not None and not handlers.has_blob


@pytest.mark.parametrize(
    ("module", "name", "sentence"),
    [
        ("", "nothing", r"handlers\.py:nothing is nothing of that name; expected langgraph_sdk\.Encryption"),
        ("other = 1", "other", "is a int; expected"),
        ("", "encryption", "it has no handlers: register"),
        ("1 / 0", "encryption", r"cannot be imported: ZeroDivisionError: division by zero \(.*handlers\.py:3\)"),
        ("raise SystemExit", "encryption", "cannot be imported: SystemExit"),
        (JSON, "encryption", "it has no blob handlers, and there is no LANGGRAPH_AES_KEY"),
        (BLOB.split("@encryption.decrypt")[0], "encryption", r"has encrypt\.blob and no decrypt\.blob"),
    ],
)
async def test_what_cannot_be_used_is_a_sentence(tmp_path: Path, module: str, name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        await wrapper_of(settings(tmp_path, module, name=name))
    assert refused.value.key == "encryption.path"


async def test_names_of_fields_need_a_key(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="set LANGGRAPH_AES_KEY"):
        await wrapper_of(Settings.load(config=tmp_path / "none.json", aes_json_keys="email"))


@pytest.mark.parametrize("name", ["thread_id", "langgraph_auth_user_id", "recursion_limit"])
def test_fields_of_the_servers_own_stay_readable(name: str) -> None:
    assert name in NEVER_ENCRYPTED
    with pytest.raises(BadSettings, match=f"LANGGRAPH_AES_JSON_KEYS.*{name} is a field of the server's own"):
        Settings.load(aes_json_keys=f"email, {name}")
