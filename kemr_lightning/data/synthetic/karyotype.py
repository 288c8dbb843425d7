"""The human karyotype: lengths, centromeres and Giemsa bands of the 24 chromosomes, and the set in one cell.

Band borders and stain intensities are those of the UCSC Genome Browser's table ``cytoBand`` for assembly hg19 (after
Furey & Haussler, Human Molecular Genetics 12 (2003) 1037), rounded to 0.1 Mb. The finest of the 862 bands merge when
the simulated microscope blurs them, as they do in a real one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_BANDS = """
1=23n31a18n20a35n35b42n35a41n22a22n22a55n40a27n39c54n29b23n76b8n152d35n36c27n50c25n50d46n43b17n28b9n35e|39e137v44n
  33b47n15b26n14b50n17b37n20c31n43b55n50d30n49d85n43a30n96d5n24a37n40b19n71c56n
2=44n27b51n45c25n48c39n21a21n45c20n32b60n51d21n63d28n45b29n20b15n83d72n28e|35e59n33b15n27a42n44b36n75b26n26a17n54d
  19n46d12n6a44n49c39n60c83n26b24n64c25n55c59n16b41n63d62n37c9n49d46n17b59n
3=28b12n47b31n15a31n75d25n45c12n44b29n43c4n1b64n17a21n42b51n61b44n56c37n37c7n31e|29e44v17n9a19n34c17n34b22n38c17n29c
  19n20a34n45a20n30a41n61d32n29b20n20b17n69d33n48c33n37c18n15a19n44c57n
4=45n15a53n39b26n35c64n81d54n34b36n22e|23e68n71d39n58c26n35b17n28a11n57c14n37c23n66b64n67c30n50b23n84d20n53a17n26a
  45n62d27n56d18n44c12n57d39n41a
5=45n18a35n52b34n49d13n43d49n46a41n36b23e|23e82n40c3n35c17n49b36n45b14n95d59n46d17n51d19n16b21n62d59n33d56n33a50n53c
  29n30b42n86d43n38a43n
6=23n19a29n35b10n18a18n100c18n34b17n14a31n39a57n56d11n41d17n23e|23e1n66d59n80b10n31b51n64d11n49d91n37c2n76d10n32c9n
  40b38n38c28n34c35n30b55n35b66n
7=28n17a28n65d27n44d46n25b8n62c22n61c21n36c15n35c40n19e|18e53n52b53n89d18n29c17n52c58n7b29n72c28n37c27n33c21n12a22n
  56b49n48c47n25a40n
8=22n40c65n63d43n41b14n77c18n14a34n25e|25e41n4c29n61b6n38b20n25b34n44d18n45c23n64d57n26a46n43c16n56d15n33b48n42b49n
  35c65n
9=22n24a44n52c24n19a14n57d24n52d31n21a26n26b37n17e|17e152v28n35a18n52b19n30b28n35b14n21a27n27a33n56d31n36a28n48c33n
  45a32n5a19n15a38n
10=30n8a28n56c51n13c1n39c20n50b17n31a36n22e|21e38n38a30n83d33n61d43n28b43n59d16n34c12n29b23n26b11n19a9n61d30n42c26n
  14b44n31b49n
11=28n79b20n35b55n44d11n38c54n71d53n28c21e|20e42c18n17a25n25a20n48b19n85d27n45d44n49d8n75d21n20b67n27b39n30b42n
12=33n21a47n27c20n52d13n52d13n29b26n25e|24e82d27n24a34n17a15n50c20n26b38n42c46n64d23n36d36n54c22n52b27n6a20n25b13n
  26b52n34b46n
13=45v55s63v16e|16e38n22a23n11a33n18b15n46c51n6a15n36b44n43d27n34c29n47d21n18b18n87d23n50d32n11a24n31d22n33d49n
14=37v44s80v15e|15e55n87d20n13b12n57d37n37d32n14a26n40c27n31b23n36b55n43d13n49d21n28a16n51b18n8b33n
15=39v48s71v32e|17e50n24b22n9b24n65c27n8a12n47c34n62c2n44a35n1a2n52a25n14a17n34b35n39b52n42b40n
16=79n26b21n22b20n44b30n39b65n20e|20e84v56n41b7n93d41n21b12n51c25n25b29n16a17n
17=33n32b42n53c62n18e|18e60n63b3n25a40n25a28n74c7n28c15n16b29n38c39n5a59n
18=29n42b14n24a45n18e|18e60n77d45n63c47n56c24n28b26n52d19n44a50n
19=69n70a1n23a37n44v21e|21e38v31n28a4n47a18n28a34n22a27n28a
20=51n41c29n58c34n10a33n19e|19e27n23a32n41c4n43a34n52c15n19b46n
21=28v40s41v23e|11e21n76d28n47c43n20b19n29b55n
22=38v45s39v25e|32e43n13a24n37b26n54b34n32b42n10b19n
X=43n17b35n76b22n26b30n44d22n61d48n40c34n50a33n25e|24e16n32b40n21b21n86d16n56d17n48c43n11b50n78c44n78d17n32a44n23c
  18n50d82n
Y=25n5b86n9e|9e17n47b23n41b26n306v
"""
"""Each chromosome's bands from the end of the short arm to that of the long arm: length in units of 0.1 Mb, and stain.

Stains are n (negative), a to d (positive, 25, 50, 75 and 100 %), e (centromere), v (variable heterochromatin) and
s (stalk); ``|`` marks the centromere.
"""

CHROMOSOME_NAMES: tuple[str, ...] = (*(str(number) for number in range(1, 23)), "X", "Y")
"""The 24 classes in their usual order; a chromosome's label is its position here, from 1."""


@dataclass(frozen=True)
class Ideogram:
    """One chromosome's band map.

    Attributes:
        name: ``"1"`` to ``"22"``, ``"X"`` or ``"Y"``.
        length: Megabases.
        centromere: Distance of the centromere from the end of the short arm, as a fraction of the length.
        edges: ``(B + 1,)`` float64, band borders from the end of the short arm, as fractions of the length, 0 to 1.
        stains: The B bands' letters, see `_BANDS`.
    """

    name: str
    length: float
    centromere: float
    edges: FloatArray
    stains: str


@cache
def ideogram(name: str) -> Ideogram:
    """Look up the band map of one chromosome.

    Args:
        name: One of `CHROMOSOME_NAMES`.

    Raises:
        KeyError: No human chromosome has that name.
    """
    table = dict(row.split("=") for row in re.sub(r"\n +", "", _BANDS).split())
    bands: str = table[name]
    lengths = np.array([int(number) for number in re.findall(r"\d+", bands)], dtype=np.float64)
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    short_arm = sum(int(number) for number in re.findall(r"\d+", bands.split("|")[0]))
    stains = "".join(re.findall("[a-z]", bands))
    return Ideogram(name, edges[-1] / 10, short_arm / edges[-1], edges / edges[-1], stains)


def karyotype(count: int, rng: np.random.Generator) -> list[str]:
    """Draw the chromosomes of one cell.

    Args:
        count: 46 gives a whole cell, male or female; fewer give a random part of one, more a cell and extra
            chromosomes.
        rng: Decides the sex, and which chromosomes are missing or extra.

    Returns:
        ``count`` names, in karyotype order.
    """
    cell = [name for name in CHROMOSOME_NAMES[:22] for _ in range(2)] + ["X", "Y" if rng.random() < 0.5 else "X"]
    extra = max(count - len(cell), 0)
    kept = np.sort(rng.permutation(len(cell))[: min(count, len(cell))])
    names = [cell[index] for index in kept] + [cell[index] for index in rng.integers(0, len(cell), extra)]
    return sorted(names, key=CHROMOSOME_NAMES.index)
