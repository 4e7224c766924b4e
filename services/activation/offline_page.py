"""The page on which a holder turns a request into a license file, and gives a receipt in: `offline_page.html`.

It is one document that loads nothing. Its policy allows its own script and style, by their hashes, and calls to its own
origin; so nothing that gets into it runs, and the license key goes nowhere else.
"""

import base64
import re
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from aiohttp import web

from shared.web.problems import language_of
from shared.web.responses import EncodedResponse, Fields

_SOURCE = files(__package__).joinpath("offline_page.html").read_text(encoding="utf-8")
_TEXTS = {
    "en": {
        "lang": "en",
        "title": "Offline license files",
        "about": "For a device without a network. Its application writes a request; here you turn it into a license "
        "file, and carry that back to the device.",
        "noscript": "This page needs JavaScript. The command `seatkeeper offline` does the same.",
        "file_title": "Get a license file",
        "request_file": "The request file that the application wrote",
        "request_text": "or its text",
        "key": "License key",
        "file_button": "Get the license file",
        "file_done": "Here is the license file. Install it on the device.",
        "save": "Save it again",
        "request_unreadable": "Choose the request file that the application wrote, or paste its whole text.",
        "return_title": "Give a seat back",
        "receipt_file": "The receipt that the application wrote when it gave the file back",
        "receipt_text": "or its text",
        "return_button": "Give the seat back",
        "return_done": "The seat is free.",
        "receipt_unreadable": "Choose the receipt that the application wrote, or paste its whole text.",
        "failed": "The server did not answer. Try again: the same again never takes a second seat.",
        "until": "Until:",
    },
    "zh": {
        "lang": "zh",
        "title": "离线许可证文件",
        "about": "用于没有网络的设备。设备上的应用程序会生成一个请求；在此将其换成许可证文件，再带回该设备。",
        "noscript": "此页面需要 JavaScript。也可使用命令 `seatkeeper offline`。",
        "file_title": "获取许可证文件",
        "request_file": "应用程序生成的请求文件",
        "request_text": "或其文本",
        "key": "许可证密钥",
        "file_button": "获取许可证文件",
        "file_done": "许可证文件已生成。请在该设备上安装。",
        "save": "再次保存",
        "request_unreadable": "请选择应用程序生成的请求文件，或粘贴其完整文本。",
        "return_title": "归还席位",
        "receipt_file": "应用程序在归还文件时生成的回执",
        "receipt_text": "或其文本",
        "return_button": "归还席位",
        "return_done": "席位已释放。",
        "receipt_unreadable": "请选择应用程序生成的回执，或粘贴其完整文本。",
        "failed": "服务器没有响应。请重试：重复请求不会多占席位。",
        "until": "直到：",
    },
}


async def serve(request: web.Request) -> web.Response:
    """The page in the reader's language."""
    return EncodedResponse(*_page(language_of(request)))


@cache
def _page(language: str) -> tuple[bytes, int, Fields]:
    texts = {name: escape(text) for name, text in _TEXTS[language].items()}
    page = Template(_SOURCE).substitute(texts)
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(page, 'script')}",
            f"style-src {_hash(page, 'style')}",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )
    fields = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Language", language),
        ("Vary", "Accept-Language"),
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
        ("Server", "seatkeeper"),
    )
    return page.encode(), 200, fields


def _hash(page: str, element: str) -> str:
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(sha256(content.encode()).digest()).decode()}'"
