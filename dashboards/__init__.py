"""The Streamlit app: identity, pages, charts. It asks warehouse.questions.door and shows what it is given; it filters nothing itself."""
