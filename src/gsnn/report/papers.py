"""The papers that reports cite."""
# ruff: noqa: E501

from __future__ import annotations

# key -> (authors, year, where it appeared, identifier)
PAPERS: dict[str, tuple[str, int, str, str]] = {
    "adam": ("Kingma & Ba", 2015, "Adam: a method for stochastic optimization, ICLR", "arXiv:1412.6980"),
    "adamw": ("Loshchilov & Hutter", 2019, "Decoupled weight decay regularization, ICLR", "arXiv:1711.05101"),
    "astropy": ("Astropy Collaboration", 2022, "ApJ 935, 167", "doi:10.3847/1538-4357/ac7c74"),
    "boosting": ("Friedman", 2001, "Greedy function approximation: a gradient boosting machine, Ann. Statist. 29, 1189", "doi:10.1214/aos/1013203451"),
    "bootstrap": ("Efron", 1979, "Bootstrap methods: another look at the jackknife, Ann. Statist. 7, 1", "doi:10.1214/aos/1176344552"),
    "captum": ("Kokhlikyan et al.", 2020, "Captum: a unified and generic model interpretability library for PyTorch", "arXiv:2009.07896"),
    "cas": ("Conselice", 2003, "ApJS 147, 1", "doi:10.1086/375001"),
    "forest": ("Breiman", 2001, "Random forests, Machine Learning 45, 5", "doi:10.1023/A:1010933404324"),
    "gaussian": ("Nix & Weigend", 1994, "Estimating the mean and variance of the target probability distribution, ICNN", "doi:10.1109/ICNN.1994.374138"),
    "grad-cam": ("Selvaraju et al.", 2017, "Grad-CAM: visual explanations from deep networks, ICCV", "doi:10.1109/ICCV.2017.74"),
    "groupnorm": ("Wu & He", 2018, "Group normalization, ECCV", "doi:10.1007/978-3-030-01261-8_1"),
    "guo": ("Guo et al.", 2017, "On calibration of modern neural networks, ICML", "arXiv:1706.04599"),
    "healpix": ("Górski et al.", 2005, "ApJ 622, 759", "doi:10.1086/427976"),
    "integrated-gradients": ("Sundararajan, Taly & Yan", 2017, "Axiomatic attribution for deep networks, ICML", "arXiv:1703.01365"),
    "knn": ("Cover & Hart", 1967, "Nearest neighbor pattern classification, IEEE Trans. Inf. Theory 13, 21", "doi:10.1109/TIT.1967.1053964"),
    "matplotlib": ("Hunter", 2007, "Computing in Science & Engineering 9, 90", "doi:10.1109/MCSE.2007.55"),
    "mixture": ("Bishop", 1994, "Mixture density networks, Aston University report NCRG/94/004", ""),
    "numpy": ("Harris et al.", 2020, "Nature 585, 357", "doi:10.1038/s41586-020-2649-2"),
    "occlusion": ("Zeiler & Fergus", 2014, "Visualizing and understanding convolutional networks, ECCV", "doi:10.1007/978-3-319-10590-1_53"),
    "permutation-test": ("Ojala & Garriga", 2010, "Permutation tests for studying classifier performance, JMLR 11, 1833", ""),
    "pit": ("Dawid", 1984, "Statistical theory: the prequential approach, J. R. Statist. Soc. A 147, 278", "doi:10.2307/2981683"),
    "pytorch": ("Paszke et al.", 2019, "PyTorch: an imperative style, high-performance deep learning library, NeurIPS 32", "arXiv:1912.01703"),
    "resnet": ("He et al.", 2016, "Deep residual learning for image recognition, CVPR", "doi:10.1109/CVPR.2016.90"),
    "saliency": ("Simonyan, Vedaldi & Zisserman", 2014, "Deep inside convolutional networks, ICLR workshop", "arXiv:1312.6034"),
    "sanity": ("Adebayo et al.", 2018, "Sanity checks for saliency maps, NeurIPS 31", "arXiv:1810.03292"),
    "rings": ("Gavazzi et al.", 2014, "RingFinder: automated detection of galaxy-scale gravitational lenses, ApJ 785, 144", "arXiv:1403.1041"),
    "scikit-learn": ("Pedregosa et al.", 2011, "Scikit-learn: machine learning in Python, JMLR 12, 2825", ""),
    "scipy": ("Virtanen et al.", 2020, "Nature Methods 17, 261", "doi:10.1038/s41592-019-0686-2"),
    "shap": ("Lundberg & Lee", 2017, "A unified approach to interpreting model predictions, NeurIPS 30", "arXiv:1705.07874"),
}  # fmt: skip
