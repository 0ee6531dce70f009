"""The survey's 31 papers in its order, and three generic formulations."""

from .row import Paper, arxiv, recipe

__all__ = ["PAPERS"]

PAPERS: tuple[Paper, ...] = (
    Paper(
        "ddpm-conversion", 1, "Conversion Between CT and MRI Images Using Diffusion and Score-Matching Models",
        "Lyu Q, Wang G",
        "arXiv:2209.12104, 2022", 2022,
        "translation", "MR to CT", "pelvis", "DDPM, SDE",
        arxiv("2209.12104"), recipe("translation.ddpm_conversion:Conversion")),
    Paper(
        "umm-csgm", 2,
        "A Novel Unified Conditional Score-based Generative Framework for Multi-modal Medical Image "
        "Completion",
        "Meng X, Gu Y, Pan Y, Wang N, Xue P, Lu M, He X, Zhan Y, Shen D",
        "arXiv:2207.03430, 2022", 2022,
        "translation (any missing contrast)", "MR T1, T1ce, T2, FLAIR", "brain", "SDE (score)",
        arxiv("2207.03430"), recipe("translation.umm_csgm:UMMCSGM")),
    Paper(
        "syndiff", 3, "Unsupervised Medical Image Translation with Adversarial Diffusion Models",
        "Özbey M, Dalmaz O, Dar SUH, Bedel HA, Özturk Ş, Güngör A, Çukur T",
        "IEEE Transactions on Medical Imaging 42(12):3524-3539, 2023 (arXiv:2207.08208)", 2022,
        "translation (unpaired)", "MR contrasts, MR-CT", "brain, pelvis", "DDPM, adversarial",
        arxiv("2207.08208"), recipe("translation.syndiff:SynDiff")),
    Paper(
        "score-inverse", 4, "Solving Inverse Problems in Medical Imaging with Score-Based Generative Models",
        "Song Y, Shen L, Xing L, Ermon S",
        "International Conference on Learning Representations (ICLR), 2022 (arXiv:2111.08005)", 2022,
        "reconstruction", "CT, MR", "lung, abdomen, brain", "SDE (VE)",
        arxiv("2111.08005"), recipe("reconstruction.score_inverse:ScoreInverse")),
    Paper(
        "mc-ddpm", 5,
        "Measurement-conditioned Denoising Diffusion Probabilistic Model for Under-sampled Medical Image "
        "Reconstruction",
        "Xie Y, Li Q",
        "Medical Image Computing and Computer Assisted Intervention (MICCAI), LNCS 13436, 655-664, 2022 "
        "(arXiv:2203.03623)", 2022,
        "reconstruction", "MR", "knee", "DDPM in k-space",
        arxiv("2203.03623"),
        recipe("reconstruction.mc_ddpm:MCDDPM")),
    Paper(
        "score-mri", 6, "Score-based diffusion models for accelerated MRI",
        "Chung H, Ye JC",
        "Medical Image Analysis 80:102479, 2022 (arXiv:2110.05243)", 2022,
        "reconstruction", "MR", "knee", "SDE (VE)",
        arxiv("2110.05243"), recipe("reconstruction.score_mri:ScoreMRI")),
    Paper(
        "diffuse-recon", 7,
        "Towards Performant and Reliable Undersampled MR Reconstruction via Diffusion Model Sampling",
        "Peng C, Guo P, Zhou SK, Patel VM, Chellappa R",
        "Medical Image Computing and Computer Assisted Intervention (MICCAI), 2022 (arXiv:2203.04292)", 2022,
        "reconstruction", "MR", "knee", "DDPM",
        arxiv("2203.04292"), recipe("reconstruction.diffuse_recon:DiffuseRecon"),
        "PSNR 29.94, SSIM 0.614 at R = 8 (fastMRI knees)"),
    Paper(
        "adadiff", 8, "Adaptive Diffusion Priors for Accelerated MRI Reconstruction",
        "Dar SUH, Öztürk Ş, Korkmaz Y, Elmas G, Özbey M, Güngör A, Çukur T",
        "arXiv:2207.05876, 2022 (Medical Image Analysis 88:102872, 2023)", 2022,
        "reconstruction", "MR", "brain", "DDPM, adversarial",
        arxiv("2207.05876"), recipe("reconstruction.adadiff:AdaDiff")),
    Paper(
        "bayes-mri", 9, "Bayesian MRI reconstruction with joint uncertainty estimation using diffusion models",
        "Luo G, Blumenthal M, Heide M, Uecker M",
        "Magnetic Resonance in Medicine 90(1):295-311, 2023 (arXiv:2202.01479)", 2022,
        "reconstruction with uncertainty", "MR", "brain", "NCSN, SDE (VE)",
        arxiv("2202.01479"), recipe("reconstruction.bayes_mri:BayesMRI")),
    Paper(
        "self-score", 10, "Self-Score: Self-Supervised Learning on Score-Based Models for MRI Reconstruction",
        "Cui Z-X, Cao C, Liu S, Zhu Q, Cheng J, Wang H, Zhu Y, Liang D",
        "arXiv:2209.00835, 2022", 2022,
        "reconstruction, self-supervised", "MR", "knee, brain", "NCSN",
        arxiv("2209.00835"), recipe("reconstruction.self_score:SelfScore")),
    Paper(
        "mcg", 11, "Improving Diffusion Models for Inverse Problems using Manifold Constraints",
        "Chung H, Sim B, Ryu D, Ye JC",
        "Advances in Neural Information Processing Systems (NeurIPS) 35, 2022 (arXiv:2206.00941)", 2022,
        "reconstruction", "CT (also inpainting)", "abdomen", "SDE (VE), DDPM",
        arxiv("2206.00941"), recipe("reconstruction.mcg:MCG")),
    Paper(
        "diffusemorph", 12, "DiffuseMorph: Unsupervised Deformable Image Registration Using Diffusion Model",
        "Kim B, Han I, Ye JC",
        "European Conference on Computer Vision (ECCV), 2022 (arXiv:2112.05149)", 2022,
        "registration", "MR (also photographs)", "heart, brain, face", "DDPM",
        arxiv("2112.05149"), recipe("registration.diffusemorph:DiffuseMorph")),
    Paper(
        "diffmic", 13, "DiffMIC: Dual-Guidance Diffusion Network for Medical Image Classification",
        "Yang Y, Fu H, Aviles-Rivero AI, Schönlieb C-B, Zhu L",
        "Medical Image Computing and Computer Assisted Intervention (MICCAI), 2023 (arXiv:2303.10610)", 2023,
        "classification", "ultrasound, dermoscopy, fundus", "placenta, skin, eye", "DDPM on labels",
        arxiv("2303.10610"), recipe("classification.diffmic:DiffMIC")),
    Paper(
        "brainspade", 14, "Can segmentation models be trained with fully synthetically generated data?",
        "Fernandez V, Pinaya WHL, Borges P, Tudosiu P-D, Graham MS, Vercauteren T, Cardoso MJ",
        "Simulation and Synthesis in Medical Imaging (SASHIMI, MICCAI workshop), 2022 (arXiv:2209.08256)",
        2022,
        "segmentation (synthetic training data)", "MR T1, FLAIR", "brain", "latent DDPM, SPADE",
        arxiv("2209.08256"), recipe("segmentation.brainspade:BrainSPADE")),
    Paper(
        "darl", 15, "Diffusion Adversarial Representation Learning for Self-supervised Vessel Segmentation",
        "Kim B, Oh Y, Ye JC",
        "International Conference on Learning Representations (ICLR), 2023 (arXiv:2209.14566)", 2022,
        "segmentation, self-supervised", "X-ray angiography (also fundus)", "vessels", "DDPM, adversarial",
        arxiv("2209.14566"), recipe("segmentation.darl:DARL")),
    Paper(
        "segmentation-ensembles", 16, "Diffusion Models for Implicit Image Segmentation Ensembles",
        "Wolleb J, Sandkühler R, Bieder F, Valmaggia P, Cattin PC",
        "Medical Imaging with Deep Learning (MIDL), PMLR 172:1336-1348, 2022 (arXiv:2112.03145)", 2022,
        "segmentation", "MR, four contrasts", "brain", "DDPM",
        arxiv("2112.03145"), recipe("segmentation.segmentation_ensembles:SegmentationEnsembles")),
    Paper(
        "pet-ddpm", 17, "PET image denoising based on denoising diffusion probabilistic model",
        "Gong K, Johnson KA, El Fakhri G, Li Q, Pan T",
        "European Journal of Nuclear Medicine and Molecular Imaging 51(2):358-368, 2024 (arXiv:2209.06167)",
        2022,
        "denoising", "PET with MR", "brain", "DDPM",
        arxiv("2209.06167"), recipe("denoising.pet_ddpm:PET")),
    Paper(
        "oct-ddpm", 18, "Unsupervised denoising of retinal OCT with diffusion probabilistic model",
        "Hu D, Tao YK, Oguz I",
        "SPIE Medical Imaging: Image Processing 12032:25-34, 2022 (arXiv:2201.11760)", 2022,
        "denoising, unsupervised", "OCT", "retina", "DDPM, short chain",
        arxiv("2201.11760"), recipe("denoising.oct_ddpm:OCT")),
    Paper(
        "brain-ldm", 19, "Brain Imaging Generation with Latent Diffusion Models",
        "Pinaya WHL, Tudosiu P-D, Dafflon J, Da Costa PF, Fernandez V, Nachev P, Ourselin S, Cardoso MJ",
        "Deep Generative Models (DGM4MICCAI, MICCAI workshop), 117-126, 2022 (arXiv:2209.07162)", 2022,
        "generation", "MR T1, 3-D", "brain", "latent DDPM",
        arxiv("2209.07162"), recipe("generation.brain_ldm:BrainLDM"),
        "FID 0.0076, MS-SSIM 0.6555; ventricles asked for against measured r = 0.972 (UK Biobank)"),
    Paper(
        "mfdpm", 20,
        "A Morphology Focused Diffusion Probabilistic Model for Synthesis of Histopathology Images",
        "Moghadam PA, Van Dalen S, Martin KC, Lennerz J, Yip S, Farahani H, Bashashati A",
        "IEEE/CVF Winter Conference on Applications of Computer Vision (WACV), 1999-2008, 2023 "
        "(arXiv:2209.13167)", 2023,
        "generation", "H&E histopathology", "brain (glioma)", "DDPM, P2 weighting",
        arxiv("2209.13167"), recipe("generation.mfdpm:MFDPM")),
    Paper(
        "dispr", 21, "A Diffusion Model Predicts 3D Shapes from 2D Microscopy Images",
        "Waibel DJE, Röell E, Rieck B, Giryes R, Marr C",
        "IEEE International Symposium on Biomedical Imaging (ISBI), 2023 (arXiv:2208.14125)", 2022,
        "generation (2-D to 3-D)", "microscopy", "cells", "DDPM, 3-D",
        arxiv("2208.14125"), recipe("generation.dispr:DISPR"),
        "macro F1 of a classifier of red blood cells 55.2 to 72.2 % with drawn shapes"),
    Paper(
        "ddpm-3d", 22,
        "Three-Dimensional Medical Image Synthesis with Denoising Diffusion Probabilistic Models",
        "Dorjsembe Z, Odonchimed S, Xiao F",
        "Medical Imaging with Deep Learning (MIDL), short paper, 2022", 2022,
        "generation", "MR T1, 3-D", "brain", "DDPM",
        "https://openreview.net/group?id=MIDL.io/2022/Short_Papers",
        recipe("generation.ddpm_3d:DDPM3D")),
    Paper(
        "ddm", 23, "Diffusion Deformable Model for 4D Temporal Medical Image Generation",
        "Kim B, Ye JC",
        "Medical Image Computing and Computer Assisted Intervention (MICCAI), 2022 (arXiv:2206.13295)", 2022,
        "generation (4-D)", "cine MR", "heart", "DDPM",
        arxiv("2206.13295"), recipe("registration.ddm:DDM")),
    Paper(
        "anoddpm", 24,
        "AnoDDPM: Anomaly Detection with Denoising Diffusion Probabilistic Models using Simplex Noise",
        "Wyatt J, Leach A, Schmon SM, Willcocks CG",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (NTIRE), 650-656, 2022",
        2022,
        "anomaly detection", "MR T1", "brain", "DDPM, simplex noise",
        "https://julianwyatt.co.uk/anoddpm", recipe("anomaly.anoddpm:AnoDDPM"),
        "Dice +25.5 %, AUC +7.4 % over f-AnoGAN and Gaussian diffusion (22 tumours)"),
    Paper(
        "diff-scm", 25, "What is Healthy? Generative Counterfactual Diffusion for Lesion Localization",
        "Sanchez P, Kascenas A, Liu X, O'Neil AQ, Tsaftaris SA",
        "Deep Generative Models (DGM4MICCAI, MICCAI workshop), 2022 (arXiv:2207.12268)", 2022,
        "anomaly detection", "MR", "brain", "DDPM, DDIM",
        arxiv("2207.12268"), recipe("anomaly.diff_scm:DiffSCM")),
    Paper(
        "swiss-army", 26, "The Swiss Army Knife for Image-to-Image Translation: Multi-Task Diffusion Models",
        "Wolleb J, Sandkühler R, Bieder F, Cattin PC",
        "arXiv:2204.02641, 2022", 2022,
        "anomaly detection, translation", "MR", "brain", "DDPM, DDIM",
        arxiv("2204.02641"), recipe("anomaly.swiss_army:SwissArmy")),
    Paper(
        "diffusion-anomaly", 27, "Diffusion Models for Medical Anomaly Detection",
        "Wolleb J, Bieder F, Sandkühler R, Cattin PC",
        "Medical Image Computing and Computer Assisted Intervention (MICCAI), 2022 (arXiv:2203.04306)", 2022,
        "anomaly detection", "MR, chest X-ray", "brain, chest", "DDPM, DDIM",
        arxiv("2203.04306"), recipe("anomaly.diffusion_anomaly:DiffusionAnomaly")),
    Paper(
        "fast-anomaly", 28, "Fast Unsupervised Brain Anomaly Detection and Segmentation with Diffusion Models",
        "Pinaya WHL, Graham MS, Gray R, Da Costa PF, Tudosiu P-D, Wright P, Mah YH, MacKinnon AD, Teo JT, "
        "Jager R, Werring D, Rees G, Nachev P, Ourselin S, Cardoso MJ",
        "Medical Image Computing and Computer Assisted Intervention (MICCAI), 2022 (arXiv:2206.03461)", 2022,
        "anomaly detection", "CT, MR FLAIR", "brain", "latent DDPM (VQ)",
        arxiv("2206.03461"), recipe("anomaly.fast_anomaly:FastAnomaly")),
    Paper(
        "mdda", 29,
        "Reversing skin cancer adversarial examples by multiscale diffusive and denoising aggregation "
        "mechanism",
        "Wang Y, Li Y, Shen Z, Qiao Y",
        "Computers in Biology and Medicine 164:107310, 2023 (arXiv:2208.10373)", 2022,
        "other: adversarial purification", "dermoscopy", "skin", "diffusion and denoising, no network",
        arxiv("2208.10373"), recipe("other.mdda:MDDA")),
    Paper(
        "smcdiff", 30,
        "Diffusion probabilistic modeling of protein backbones in 3D for the motif-scaffolding problem",
        "Trippe BL, Yim J, Tischer D, Baker D, Broderick T, Barzilay R, Jaakkola TS",
        "International Conference on Learning Representations (ICLR), 2023 (arXiv:2206.04119)", 2023,
        "other: protein backbones", "C-alpha coordinates", "proteins", "DDPM, particle filter",
        arxiv("2206.04119"), recipe("other.smcdiff:SMCDiff")),
    Paper(
        "r2d2", 31, "MR Image Denoising and Super-Resolution Using Regularized Reverse Diffusion",
        "Chung H, Lee ES, Ye JC",
        "IEEE Transactions on Medical Imaging 42(4):922-934, 2023 (arXiv:2203.12621)", 2022,
        "other: denoising, super-resolution", "MR", "knee, liver", "SDE (VE)",
        arxiv("2203.12621"), recipe("other.r2d2:R2D2")),
    Paper(
        "ddpm", None, "Denoising Diffusion Probabilistic Models",
        "Ho J, Jain A, Abbeel P",
        "Advances in Neural Information Processing Systems (NeurIPS) 33, 2020 (arXiv:2006.11239)", 2020,
        "generation", "any", "any", "DDPM",
        arxiv("2006.11239"), recipe("generation.ddpm:DDPM")),
    Paper(
        "ncsn", None, "Improved Techniques for Training Score-Based Generative Models",
        "Song Y, Ermon S",
        "Advances in Neural Information Processing Systems (NeurIPS) 33, 2020 (arXiv:2006.09011)", 2020,
        "generation", "any", "any", "NCSN",
        arxiv("2006.09011"), recipe("generation.ncsn:NCSN")),
    Paper(
        "sde", None, "Score-Based Generative Modeling through Stochastic Differential Equations",
        "Song Y, Sohl-Dickstein J, Kingma DP, Kumar A, Ermon S, Poole B",
        "International Conference on Learning Representations (ICLR), 2021 (arXiv:2011.13456)", 2021,
        "generation", "any", "any", "SDE",
        arxiv("2011.13456"), recipe("generation.sde:SDE")),
)  # fmt: skip
