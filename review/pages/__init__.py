"""The pages: each module is one page, its answers and its acts."""
