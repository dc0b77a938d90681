"""Chat templates as published ones are written, and conversations that do not run what was said again."""

from __future__ import annotations

import datetime
import json

import pytest
from lamina.lm import ContextError, PromptError, Tokenizer, generate
from lamina.lm.chat import ChatTemplate, Conversation, chat_ids, chat_template
from lm.lm_toy import toy

# Written for these tests with what templates of published models use.
CHATML = """{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think></think>' }}{% endif %}
{%- endif %}"""
STRICT = """{{ bos_token }}{% for m in messages %}
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}
{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}
{% generation %} {{ m.content }}{{ eos_token }}{% endgeneration %}{% endif %}
{% endfor %}"""
TOOLS = """{% if tools %}Tools:
{% for tool in tools %}
{{ tool | tojson }}
{% endfor %}{% endif %}
{% set ns = namespace(calls=0) %}
{% for m in messages %}
{% if m.role == 'tool' %}{% continue %}{% endif %}
{% if m.tool_calls is defined %}
{% set ns.calls = ns.calls + m.tool_calls | length %}
{{ m.tool_calls | map(attribute='name') | join(',') }}
{% endif %}
{% if loop.index > 5 %}{% break %}{% endif %}
{% endfor %}
{{ ns.calls }} on {{ strftime_now('%Y') }}"""
TALK = [
    {"role": "user", "content": " Hi "},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "größer? 🎉"},
]


def test_chatml():
    template = ChatTemplate(CHATML)
    assert template.render(TALK) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\ngrößer? 🎉<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert template.render(TALK[:1], add_generation_prompt=False).endswith("user\nHi<|im_end|>\n")
    assert template.render(TALK, enable_thinking=False).endswith("assistant\n<think></think>")


def test_special_tokens_generation_blocks_and_refusals():
    template = ChatTemplate(STRICT, {"bos_token": "<s>", "eos_token": "</s>"})
    text = template.render(TALK)
    assert text.split() == ["<s>[INST]", "Hi", "[/INST]", "Hello!</s>[INST]", "größer?", "🎉", "[/INST]"]
    with pytest.raises(PromptError, match="refuses the conversation: turns must alternate"):
        template.render(TALK[1:])


def test_tools_and_loops():
    tools = [{"type": "function", "function": {"name": "wetter", "description": "für Köln <now>"}}]
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "a"}, {"name": "b"}]}
    text = ChatTemplate(TOOLS).render([call, {"role": "tool", "content": "x"}, call], tools)
    assert json.loads(text.splitlines()[1]) == tools[0]
    assert "für Köln <now>" in text
    assert text.splitlines()[2:] == ["a,b", "a,b", f"4 on {datetime.datetime.now().year}"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{{ 1 / 0 if false else messages[0].nothing.more }}",
        "{{ 'x' | tojson(indent='a', nothing=1) }}",
    ],
)
def test_what_templates_may_not_do(text):
    with pytest.raises(PromptError, match="the chat template refuses the conversation"):
        ChatTemplate(text).render(TALK)


def test_what_is_no_template_or_no_message():
    with pytest.raises(PromptError, match=r"the chat template cannot be used: .*end of template"):
        ChatTemplate("{% for m in messages %}")
    for messages, message in (
        ([], "wants at least one message"),
        (["hi"], "message 0 wants a role and a content, got 'hi'"),
        ([{"content": "hi"}], "message 0 wants a role"),
    ):
        with pytest.raises(PromptError, match=message):
            ChatTemplate(CHATML).render(messages)


def test_which_template_a_tokenizer_has(tokenizer):
    def texts(**given):
        return Tokenizer(tokenizer.inner, special_tokens={"bos_token": "<b>"}, **given)

    with pytest.raises(PromptError, match="the model has no chat template"):
        chat_template(texts())
    one = texts(chat_template="{{ bos_token }}1", chat_templates={"tool_use": "2"})
    assert chat_template(one).render(TALK) == "<b>1"
    assert chat_template(one, tools=True).render(TALK) == "2"
    assert chat_template(texts(chat_template="1"), tools=True).render(TALK) == "1"
    assert chat_template(texts(chat_templates={"default": "3"})).render(TALK) == "3"
    ids = chat_ids(one, TALK)
    assert ids == one.encode("<b>1", special=False)


class TestConversation:
    @pytest.fixture
    def talk(self, tokenizer):
        endless = Tokenizer(tokenizer.inner, chat_template=CHATML)
        return Conversation(toy("attention"), endless, max_tokens=9, template=chat_template(endless))

    def say(self, talk, text):
        pieces = list(talk.say(text))
        return "".join(p.text for p in pieces), pieces

    def test_turns_are_kept_and_not_run_again(self, talk):
        first, _ = self.say(talk, "Hi")
        assert first == generate(talk.model, talk.tokenizer, chat_ids(talk.tokenizer, talk.messages[:1]), 9)
        assert [m["role"] for m in talk.messages] == ["user", "assistant"]
        before = len(talk.prompt_ids())
        second, pieces = self.say(talk, "And?")
        want = generate(talk.model, talk.tokenizer, chat_ids(talk.tokenizer, talk.messages[:3]), 9)
        assert second == want
        assert pieces[0].cached_tokens > before // 2

    def test_back_and_forth(self, talk):
        answer, _ = self.say(talk, "Hi")
        assert "".join(p.text for p in talk.again()) == answer  # it takes the likeliest tokens
        assert len(talk.messages) == 2
        assert talk.undo()
        assert not talk.undo()
        talk.set_system("Be brief.")
        self.say(talk, "Hi")
        talk.set_system("Be long.")
        assert [m["content"] for m in talk.messages[:2]] == ["Be long.", "Hi"]
        talk.clear()
        assert [m["role"] for m in talk.messages] == ["system"]
        talk.set_system("")
        with pytest.raises(PromptError, match="no question to answer again"):
            talk.again()

    def test_an_answer_that_is_left_is_kept_as_far_as_it_came(self, talk):
        pieces = talk.say("Hi")
        text = next(pieces).text + next(pieces).text
        pieces.close()
        assert talk.messages[-1] == {"role": "assistant", "content": text}

    def test_a_turn_that_does_not_fit_leaves_the_conversation(self, talk):
        self.say(talk, "Hi")
        with pytest.raises(ContextError):
            talk.say("x" * 3000)
        assert len(talk.messages) == 2

    def test_a_model_without_a_template_continues_the_text(self, talk):
        talk.template = None
        answer, _ = self.say(talk, "def f():")
        assert answer == generate(talk.model, talk.tokenizer, "def f():", 9)
        self.say(talk, "more")
        assert talk.tokenizer.decode(talk.prompt_ids()).startswith("def f():\n")
