"""Drive the real Labelme as a person does: open a folder, click a shape, move it with the arrow keys, save.

Run by an interpreter that has Labelme 6, which need not have this package:

    python drive.py FOLDER NAME SCREENSHOT

opens the folder's image whose JSON is NAME.json, and prints what it did as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from labelme import __version__
from labelme.app import MainWindow
from labelme.widgets.canvas import Canvas
from PyQt5 import QtCore, QtGui, QtWidgets
from PyQt5.QtTest import QTest


def outline(shape: Any) -> Any:
    """The polygon of a shape, or the frame of a bitmap."""
    points = QtGui.QPolygonF(list(shape.points))
    path = QtGui.QPainterPath()
    if shape.shape_type == "polygon":
        path.addPolygon(points)
    else:
        path.addRect(points.boundingRect())
    path.closeSubpath()
    return path


def click(canvas: Any, shape: Any) -> bool:
    """Click into a shape where no other lies; whether it is selected now."""
    others = [outline(other) for other in canvas.shapes if other is not shape]
    path = outline(shape)
    box = path.boundingRect()
    # Where the image begins on the canvas: it is centred in the room it has.
    slack_x = max((canvas.width() - canvas.pixmap.width() * canvas.scale) / 2, 0)
    slack_y = max((canvas.height() - canvas.pixmap.height() * canvas.scale) / 2, 0)
    for step_y in range(2, 19):
        for step_x in range(2, 19):
            point = QtCore.QPointF(box.x() + box.width() * step_x / 20, box.y() + box.height() * step_y / 20)
            if not path.contains(point) or any(other.contains(point) for other in others):
                continue
            place = QtCore.QPoint(round(point.x() * canvas.scale + slack_x), round(point.y() * canvas.scale + slack_y))
            QTest.mouseMove(canvas, place)
            QTest.mouseClick(canvas, QtCore.Qt.LeftButton, pos=place)
            QtWidgets.QApplication.processEvents()
            if canvas.selected_shapes == [shape]:
                return True
    return False


def main(folder: Path, name: str, screenshot: Path) -> None:
    """See the module."""
    application = QtWidgets.QApplication(sys.argv[:1])
    settings = folder.parent / "labelme-settings"
    settings.mkdir(exist_ok=True)
    QtCore.QSettings.setPath(QtCore.QSettings.NativeFormat, QtCore.QSettings.UserScope, str(settings))
    window = MainWindow(config_overrides={"auto_save": False}, file_or_dir=str(folder))
    window.resize(1400, 1000)
    window.show()
    for _ in range(20):
        application.processEvents()
        QTest.qWait(50)
    files = next(view for view in window.findChildren(QtWidgets.QListWidget) if view.count() and _lists_files(view))
    row = next(i for i in range(files.count()) if Path(files.item(i).text()).stem == name)
    files.setCurrentRow(row)
    for _ in range(20):
        application.processEvents()
        QTest.qWait(50)
    canvas = window.findChild(Canvas)
    shapes = list(canvas.shapes)
    moved = next(index for index, shape in enumerate(shapes) if click(canvas, shape))
    before = [(point.x(), point.y()) for point in shapes[moved].points]
    for key in (QtCore.Qt.Key_Right, QtCore.Qt.Key_Right, QtCore.Qt.Key_Down):
        QTest.keyClick(canvas, key)
    QTest.qWait(200)
    window.grab().save(str(screenshot))
    after = [(point.x(), point.y()) for point in shapes[moved].points]
    save = next(a for a in window.findChildren(QtWidgets.QAction) if a.text().replace("&", "").strip() == "Save")
    enabled = save.isEnabled()
    save.trigger()
    application.processEvents()
    result = {
        "labelme": __version__,
        "files": files.count(),
        "shapes": len(shapes),
        "moved": moved,
        "before": before,
        "after": after,
        "was_dirty": enabled,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def _lists_files(view: Any) -> bool:
    return bool(Path(view.item(0).text()).suffix)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
