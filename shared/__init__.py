"""Code that services and training share: patient, contracts, bundles, HTTP hosting. It imports neither of them."""
