from unlossy.cli import report

if __name__ == "__main__":
    report()
