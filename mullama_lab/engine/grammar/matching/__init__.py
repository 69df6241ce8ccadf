"""llguidance at work: grammars written for it, and which tokens or bytes they allow next."""
