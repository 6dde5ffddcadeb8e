"""The dashboard's themes. Their accents are Okabe and Ito's, which differ under all kinds of colour blindness."""

from textual.theme import Theme

DEFAULT = "cockpit-dark"

THEMES = (
    Theme(
        name=DEFAULT,
        primary="#56B4E9",
        secondary="#0072B2",
        accent="#E69F00",
        warning="#E69F00",
        error="#D55E00",
        success="#009E73",
        foreground="#E6E6E6",
        background="#14171C",
        surface="#1B1F26",
        panel="#262C36",
        dark=True,
        variables={"block-cursor-background": "#56B4E9", "block-cursor-foreground": "#14171C"},
    ),
    Theme(
        name="cockpit-light",
        primary="#00588A",
        secondary="#0072B2",
        accent="#A34700",
        warning="#8A5F00",
        error="#B03A00",
        success="#006B4E",
        foreground="#1A1A1A",
        background="#FAFAF7",
        surface="#F2F2EE",
        panel="#E2E3DE",
        dark=False,
        variables={"block-cursor-background": "#00588A", "block-cursor-foreground": "#FFFFFF"},
    ),
)
