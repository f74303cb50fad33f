"""The Streamlit app: identity, pages, charts. It asks warehouse.query and shows what it is given; it filters nothing itself."""
