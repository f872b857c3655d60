"""Makes the speech: 15 clips of 8 s by five speakers, from Debian's prompts for Asterisk (G.722, 16 kHz).

    speech.py FOLDER

The folder gets clip-NN.{8000,16000,48000}.raw, 16-bit little-endian PCM: the same sound at three rates. Prompts of one
speaker follow each other with a quarter of a second between; which ones is the same on every machine.
"""

import pathlib
import subprocess
import sys

import numpy as np

SPEAKERS = ["en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU"]
SOUNDS = pathlib.Path("/usr/share/asterisk/sounds")
CLIPS_OF_EACH = 3
SECONDS = 8
RATE = 16_000
PAUSE = np.zeros(RATE // 4, np.int16)
# Prompts that are speech of a sentence's length; G.722 has 8,000 bytes a second.
LENGTHS = range(14_000, 70_000)
NO_SPEECH = ("beep", "silence", "tt-monkeys", "ascending", "descending", "confbridge-join", "confbridge-leave")


def ffmpeg(arguments, data=None):
    command = ["ffmpeg", "-v", "error", "-nostdin", *arguments]
    if data is not None:
        command.remove("-nostdin")
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def decoded(path):
    pcm = ffmpeg(["-f", "g722", "-i", str(path), "-f", "s16le", "-ac", "1", "-"])
    return np.frombuffer(pcm, "<i2")


def resampled(pcm, rate):
    if rate == RATE:
        return pcm.astype("<i2").tobytes()
    source = ["-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    return ffmpeg([*source, "-af", f"aresample={rate}:filter_size=64", "-f", "s16le", "-"], pcm.astype("<i2").tobytes())


def clips(speaker):
    files = sorted(path for path in (SOUNDS / speaker).glob("*.g722") if path.stat().st_size in LENGTHS)
    files = [path for path in files if not path.stem.startswith(NO_SPEECH)]
    each = len(files) // CLIPS_OF_EACH
    for clip in range(CLIPS_OF_EACH):
        parts, have = [], 0
        for path in files[clip * each:]:
            parts += [decoded(path), PAUSE]
            have += len(parts[-2]) + len(PAUSE)
            if have >= SECONDS * RATE:
                break
        yield np.concatenate(parts)[: SECONDS * RATE]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True)
    # One clip of each speaker first: the first five stand for all.
    by_speaker = [list(clips(speaker)) for speaker in SPEAKERS]
    ordered = [of_speaker[n] for n in range(CLIPS_OF_EACH) for of_speaker in by_speaker]
    for number, pcm in enumerate(ordered):
        assert len(pcm) == SECONDS * RATE, f"clip {number} is too short"
        for rate in (8_000, 16_000, 48_000):
            raw = resampled(pcm, rate)[: SECONDS * rate * 2]
            (folder / f"clip-{number:02}.{rate}.raw").write_bytes(raw.ljust(SECONDS * rate * 2, b"\0"))
    print(f"{len(ordered)} clips of {SECONDS} s in {folder}")


main()
