"""Time and place of the synthetic city's clips, which its sounds follow, in the columns of SONYC-UST v2."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ust.datasets.synthetic.scene import Event
from ust.datasets.synthetic.signals import Generator
from ust.util.seeding import random_stream

COLUMNS = ("borough", "block", "latitude", "longitude", "year", "week", "day", "hour")
YEARS, WEEKS, DAYS, HOURS = range(2017, 2020), range(1, 53), range(7), range(24)  # day 0 is Monday
WORKDAYS, WEEKEND = range(5), range(4, 7)  # the weekend begins on Friday
RARE = 0.05  # weight of a time at which a sound is not usual; 1 for the others


@dataclass(frozen=True)
class Area:
    """Surroundings of sensors."""

    borough: int  # its code in v2: 1 is Manhattan, 3 Brooklyn, 4 Queens
    is_park: bool  # whether the sensors are by a park, rather than on busy streets
    latitude: float  # of the middle of the area, in degrees
    longitude: float


AREAS = (
    Area(1, True, 40.782, -73.965),
    Area(1, False, 40.745, -73.990),
    Area(3, True, 40.660, -73.969),
    Area(3, False, 40.692, -73.987),
    Area(4, True, 40.740, -73.841),
    Area(4, False, 40.703, -73.801),
)
RADIUS = 0.006  # degrees from the middle of the area


@dataclass(frozen=True)
class Habit:
    """Times and places at which a sound occurs more often."""

    hours: tuple[int, int]  # first hour, and the hour after the last one; midnight may lie between them
    days: range = DAYS
    weeks: range = WEEKS
    park: float = 1.0  # weight of sensors by a park
    street: float = 1.0  # weight of sensors on a street

    def time_weights(self) -> np.ndarray:
        """Return the weight of each week, day and hour [shape=(52, 7, 24)]."""
        first, end = self.hours
        hours = [first <= hour < end if first < end else hour >= first or hour < end for hour in HOURS]
        usual = np.ix_(np.isin(WEEKS, self.weeks), np.isin(DAYS, self.days), hours)
        weights = np.full((len(WEEKS), len(DAYS), len(HOURS)), RARE)
        weights[usual] = 1.0
        return weights


WORK = Habit((7, 18), days=WORKDAYS, park=0.2)
HABITS = {
    **dict.fromkeys(("rock-drill", "jackhammer", "hoe-ram", "pile-driver", "reverse-beeper"), WORK),
    **dict.fromkeys(("small-medium-rotating-saw", "large-rotating-saw"), WORK),
    "chainsaw": Habit((7, 18), days=WORKDAYS, street=0.2),
    "ice-cream-truck": Habit((12, 20), weeks=range(20, 38), street=0.1),
    "stationary-music": Habit((20, 3), park=0.2),
    "mobile-music": Habit((18, 2), days=WEEKEND, park=0.3),
    "large-crowd": Habit((18, 2), days=WEEKEND),
    "person-or-small-group-shouting": Habit((22, 4), park=0.3),
    "car-horn": Habit((16, 20), days=WORKDAYS, park=0.2),
    "dog-barking-whining": Habit((6, 10), street=0.2),
}


def sensor_area(sensor: int) -> Area:
    """Return the area of a sensor."""
    return AREAS[sensor % len(AREAS)]


def draw_context(
    events: Iterable[Event], sensors: Sequence[int], seed: int, rng: Generator
) -> tuple[int, dict[str, int | float]]:
    """Draw the sensor of a clip and the values of `COLUMNS`, given its events.

    The distribution over sensors and times is the product of the habits of the events. The events themselves
    are those of a city without time and place, so that all classes are as frequent as there.
    """
    habits = [HABITS[event.name] for event in events if event.name in HABITS]
    places = np.ones(len(sensors))
    times = np.ones((len(WEEKS), len(DAYS), len(HOURS)))
    for habit in habits:
        places *= [habit.park if sensor_area(sensor).is_park else habit.street for sensor in sensors]
        times *= habit.time_weights()
    sensor = int(rng.choice(sensors, p=places / places.sum()))
    week, day, hour = np.unravel_index(rng.choice(times.size, p=times.ravel() / times.sum()), times.shape)
    area, of_sensor = sensor_area(sensor), random_stream(seed, "block", str(sensor))
    north, east = of_sensor.uniform(-RADIUS, RADIUS, 2)
    return sensor, {
        "borough": area.borough,
        "block": int(of_sensor.integers(1, 3000)),
        "latitude": round(area.latitude + float(north), 5),
        "longitude": round(area.longitude + float(east), 5),
        "year": int(rng.choice(YEARS)),
        "week": WEEKS[week],
        "day": DAYS[day],
        "hour": HOURS[hour],
    }
