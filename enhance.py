from unlossy.cli import enhance

if __name__ == "__main__":
    enhance()
