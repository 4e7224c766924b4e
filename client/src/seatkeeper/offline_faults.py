"""What stands in the way of working offline by a file, in words for a person."""

from enum import StrEnum


class OfflineFault(StrEnum):
    KEY_DAMAGED = (
        "the offline key of this device was damaged and has been set aside beside its place: a license file that is"
        " installed runs on, but cannot be given back before it ends; without one, make a new request, which makes a"
        " new key"
    )
    KEY_GONE = (
        "the offline key of this device is gone, while a license file made with it is in force: the file runs on until"
        " it ends and cannot be given back before; ask the vendor to free the seat if it is needed sooner"
    )
    GIVEN_BACK = "this license file was given back: make a new request"
    OLDER = "a newer license file is installed already"
    OTHER_LICENSE = "a file of another license is installed: give that one back first"
    NOTHING_INSTALLED = "no license file is installed here: there is nothing to give back"
    DAYS = "a license file is for one day at least: ask for more days"
