"""Networks that were trained elsewhere: opened without running what is in them, with inputs and heads as ours."""
