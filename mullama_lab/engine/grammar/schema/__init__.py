"""JSON Schema: what of it is carried out, and what each error says of the rest."""
