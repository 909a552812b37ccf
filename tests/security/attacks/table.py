"""All attacks by name."""

from tests.security.attacks import Attack, bodies, clients, images, members, models, unknown

SUBJECTS = (clients.ATTACKS, bodies.ATTACKS, images.ATTACKS, models.ATTACKS, unknown.ATTACKS, members.ATTACKS)
ATTACKS: dict[str, Attack] = {name: attack for subject in SUBJECTS for name, attack in subject}
