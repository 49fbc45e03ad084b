"""The table of chapters: how a row is found."""

from __future__ import annotations

import re

import pytest

import labkit
from labkit import chapters, checks, notebooks
from tests import inputs, solutions


def test_numbers_and_topics_are_proper_and_in_order():
    numbers = [chapter.number for chapter in chapters.CHAPTERS]
    topics = [chapter.topic for chapter in chapters.CHAPTERS]
    assert numbers == sorted(set(numbers)) and all(re.fullmatch(r"\d\d", number) for number in numbers)
    assert len(set(topics)) == len(topics) and all(re.fullmatch(r"[a-z]+(_[a-z]+)*", topic) for topic in topics)
    # else the file `one_two_three.py` could belong to either
    assert not [(one, other) for one in topics for other in topics if other.startswith(f"{one}_")]


@pytest.mark.parametrize("key", ["03", "3", "texture_optimization", "03_texture_optimization"])
def test_a_chapter_is_found_by_number_topic_and_name(key):
    assert chapters.find(key).topic == "texture_optimization"


@pytest.mark.parametrize("key", ["77", "", "0", "texture", "03_filtering", "Filtering"])
def test_a_chapter_that_is_not_there_is_named_beside_those_that_are(key):
    with pytest.raises(ValueError, match=f"no chapter is called '{key}'; expected a number or a topic of these: 01 .filtering., "):
        chapters.find(key)


def test_a_name_is_split_into_number_and_topic():
    assert chapters.split("03_texture_optimization") == ("03", "texture_optimization")


@pytest.mark.parametrize("name", ["filtering", "1_filtering", "01_", "01filtering", "001_filtering", "index", "²3_x"])
def test_a_name_of_no_chapter_is_refused(name):
    with pytest.raises(ValueError, match="is no name of a chapter's notebook; expected one such as '01_filtering'"):
        chapters.split(name)


def test_labkit_offers_its_chapters():
    assert {chapter.topic for chapter in chapters.CHAPTERS} < set(dir(labkit))


@pytest.mark.parametrize("chapter", chapters.CHAPTERS, ids=lambda chapter: chapter.topic)
def test_the_title_is_that_of_the_notebook(chapter):
    source = notebooks.Chapter(solutions.ROOT, chapter.name)
    assert notebooks.unexecuted(source).metadata.labkit.title == chapter.title


@pytest.mark.parametrize("topic", [chapter.topic for chapter in chapters.CHAPTERS])
def test_inputs_are_there_for_the_mutants_of_every_exercise_and_for_no_other(topic):
    assert set(inputs.of(topic)) == set(checks.exercises(topic))
