"""What ``pipelines/plan.py`` is made of: how long and how fast trainings are, which are done, and the plan as text."""
