"""What a campaign did: treated users against those held out, judged from a few sums of each group."""
