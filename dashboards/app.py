"""The dashboard: who looks, which pages there are. Streamlit runs this file; `hindcast dashboard` starts it."""

from __future__ import annotations

import streamlit as st

from dashboards import flows
from warehouse import config
from warehouse.access import Principal
from warehouse.errors import HindcastError
from warehouse.query import Door
from warehouse.tables import Lake


@st.cache_resource(hash_funcs={config.Lake: lambda lake: lake.model_dump_json()})
def open_lake(settings: config.Lake) -> Lake:
    """The lake's handle, which holds no one's rows and is shared by all sessions."""
    return Lake.open(settings)


def local_user(settings: config.Config) -> Principal:
    """Someone of the configuration's grants: on one machine, whoever sits before it may be anyone."""
    subjects = sorted({grant.subject for grant in settings.ownership.grants})
    if not subjects:
        st.title("Nobody owns anything yet", anchor=False)
        st.write("Name users and their namespaces in `ownership.grants` of the configuration, then reload this page.")
        st.stop()
    chosen = st.selectbox("Look as", subjects, key="user", bind="query-params", width=220, label_visibility="collapsed")
    if chosen is None:
        st.stop()
    if chosen.startswith("group:"):
        return Principal(user="", groups=frozenset([chosen.removeprefix("group:")]))
    return Principal(user=chosen)


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Flows · Hindcast", layout="wide")
    try:
        settings = config.load_config()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header("Flows", anchor=False, width="content")
            st.space("stretch")
            st.badge("Local mode: no sign-in, this machine only", icon=":material/computer:", color="yellow")
            who = local_user(settings)
        flows.page(Door(open_lake(settings.lake), settings.ownership, settings.rollups, purpose="dashboard: flows"), who)
    except HindcastError as error:
        st.error(str(error), icon=":material/error:")


main()
