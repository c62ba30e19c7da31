"""A disease whose author writes markup into every text that a doctor sees, and a model card that would do harm."""

from typing import ClassVar, Literal

from shared.patient import Diagnosis, Disease, Patient, choice, flag, measure

RAN = "guion-ejecutado"
"""The title that a script of the author would give the page."""
AWAY = "/otra-pagina"
"""The address that the author would have a browser open or fetch."""
MARKUP = f"<img src='{AWAY}' onerror='document.title=\"{RAN}\"'><script>document.title='{RAN}'</script><b>negrita</b>"
CARD = f"""<!doctype html><html lang="es"><head><meta charset="utf-8"><title>Ficha</title>
<meta http-equiv="refresh" content="0;url={AWAY}"><base href="{AWAY}/"><link rel="stylesheet" href="{AWAY}">
<style>h1 {{ color: red; background: url("{AWAY}") }}</style></head>
<body onload="document.title='{RAN}'"><main><h1>Ficha</h1>{MARKUP}
<iframe src="{AWAY}"></iframe><object data="{AWAY}"></object><form action="{AWAY}"><button>Entrar</button></form>
<svg><script>document.title='{RAN}'</script></svg><a href="javascript:document.title='{RAN}'">enlace</a>
</main></body></html>""".encode()


class PacienteHostil(Patient):
    __doc__ = f"Datos {MARKUP}."

    disease: ClassVar[Disease] = Disease(
        name="hostil",
        title=f"Título {MARKUP}",
        diagnoses=(Diagnosis("sano", f"Sano {MARKUP}"), Diagnosis("enfermo", f"Enfermo {MARKUP}")),
    )

    edad: int | None = measure(f"Edad {MARKUP}", unit=f"años {MARKUP}", limits=(0, 120), required=True)
    sexo: Literal["F", "<script>document.title='guion-ejecutado'</script>"] | None = choice(f"Sexo {MARKUP}")
    glucosa: float | None = measure(
        f"Glucosa {MARKUP}", unit=f"mg/dL {MARKUP}", limits=(10, 1000), reference=(70, 100), other_units={MARKUP: 18.0}
    )
    fumador: bool = flag(f"Fumador {MARKUP}")
