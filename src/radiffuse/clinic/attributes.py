"""Attributes of DICOM objects that are derived from others: which are carried over, and what stands where one lacks.

The conformance page of the docs is made from these tables.
"""

from collections.abc import Mapping

__all__ = [
    "CARRIED",
    "CLASSES",
    "COLOUR_STACK",
    "EMPTY",
    "FILLED",
    "GREY_STACK",
    "SECONDARY",
    "UNPAIRED",
]

CLASSES: Mapping[str, tuple[str, str]] = {
    "CT": ("1.2.840.10008.5.1.4.1.1.2", "CT Image Storage"),
    "MR": ("1.2.840.10008.5.1.4.1.1.4", "MR Image Storage"),
    "PT": ("1.2.840.10008.5.1.4.1.1.128", "Positron Emission Tomography Image Storage"),
    "US": ("1.2.840.10008.5.1.4.1.1.6.1", "Ultrasound Image Storage"),
}
"""Classes of one image an object, by modality."""
SECONDARY = ("1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage")
GREY_STACK = (
    "1.2.840.10008.5.1.4.1.1.7.3",
    "Multi-frame Grayscale Word Secondary Capture Image Storage",
)
COLOUR_STACK = (
    "1.2.840.10008.5.1.4.1.1.7.4",
    "Multi-frame True Color Secondary Capture Image Storage",
)

_WORDS: Mapping[str, str] = {
    "patient": """PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
        PatientBirthDate PatientBirthTime PatientSex QualityControlSubject OtherPatientNames OtherPatientIDsSequence
        EthnicGroupCodeSequence PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription
        PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole
        ResponsibleOrganization PatientComments PatientIdentityRemoved DeidentificationMethod
        DeidentificationMethodCodeSequence LongitudinalTemporalInformationModified""",
    "study": """StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber IssuerOfAccessionNumberSequence
        ReferringPhysicianName StudyDescription ProcedureCodeSequence PhysiciansOfRecord ReferencedStudySequence
        AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight
        PatientBodyMassIndex MedicalAlerts Allergies Occupation SmokingStatus AdditionalPatientHistory
        PregnancyStatus PatientSexNeutered AdmissionID""",
    "series": """BodyPartExamined ProtocolName PatientPosition Laterality AnatomicalOrientationType
        RequestAttributesSequence PositionReferenceIndicator FrameOfReferenceUID""",
    "image": """AcquisitionNumber AcquisitionDate AcquisitionTime AcquisitionDateTime AcquisitionUID
        AnatomicRegionSequence PrimaryAnatomicStructureSequence ViewCodeSequence PatientOrientation ImageLaterality
        BurnedInAnnotation RecognizableVisualFeatures LossyImageCompression LossyImageCompressionRatio
        LossyImageCompressionMethod IrradiationEventUID ContrastBolusAgent ContrastBolusAgentSequence
        ContrastBolusAdministrationRouteSequence ContrastBolusRoute ContrastBolusVolume ContrastBolusStartTime
        ContrastBolusStopTime ContrastBolusTotalDose ContrastFlowRate ContrastFlowDuration ContrastBolusIngredient
        ContrastBolusIngredientConcentration""",
    "window": """WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction""",
    "CT": """ScanOptions KVP DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector
        DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime XRayTubeCurrent Exposure
        ExposureInuAs FilterType GeneratorPower FocalSpots ConvolutionKernel RevolutionTime SingleCollimationWidth
        TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor DataCollectionCenterPatient
        ReconstructionTargetCenterPatient ExposureModulationType CTDIvol CTDIPhantomTypeCodeSequence""",
    "MR": """ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName AngioFlag RepetitionTime
        EchoTime EchoTrainLength InversionTime NumberOfAverages ImagingFrequency ImagedNucleus EchoNumbers
        MagneticFieldStrength NumberOfPhaseEncodingSteps PercentSampling PercentPhaseFieldOfView PixelBandwidth
        TriggerTime NominalInterval HeartRate CardiacNumberOfImages ReconstructionDiameter ReceiveCoilName
        TransmitCoilName AcquisitionMatrix InPlanePhaseEncodingDirection FlipAngle VariableFlipAngleFlag SAR dBdt
        TemporalPositionIdentifier NumberOfTemporalPositions TemporalResolution DiffusionBValue
        DiffusionGradientOrientation""",
    "PT": """SeriesDate SeriesTime Units CountsSource SeriesType CorrectedImage DecayCorrection CollimatorType
        AttenuationCorrectionMethod ScatterCorrectionMethod RandomsCorrectionMethod ReconstructionMethod
        ReconstructionDiameter ConvolutionKernel SUVType ReprojectionMethod AxialAcceptance TypeOfDetectorMotion
        AcquisitionStartCondition AcquisitionTerminationCondition GantryDetectorTilt FieldOfViewShape
        FieldOfViewDimensions EnergyWindowRangeSequence NumberOfTimeSlices NumberOfRRIntervals NumberOfTimeSlots
        CoincidenceWindowWidth SecondaryCountsType RadiopharmaceuticalInformationSequence
        InterventionDrugInformationSequence PatientOrientationCodeSequence PatientGantryRelationshipCodeSequence
        ActualFrameDuration FrameReferenceTime DecayFactor DoseCalibrationFactor ScatterFractionFactor DeadTimeFactor
        SliceSensitivityFactor PrimaryPromptsCountsAccumulated SecondaryCountsAccumulated TriggerTime FrameTime
        NominalInterval LowRRValue HighRRValue IntervalsAcquired IntervalsRejected""",
    "US": """TransducerData TransducerType FocusDepth DepthOfScanField ProcessingFunction MechanicalIndex
        BoneThermalIndex CranialThermalIndex SoftTissueThermalIndex OutputPower HeartRate StageName StageNumber
        NumberOfStages ViewName ViewNumber NumberOfViewsInStage""",
}
CARRIED: Mapping[str, tuple[str, ...]] = {
    module: tuple(text.split()) for module, text in _WORDS.items()
}
"""Keywords that are carried over from the source where they are there and valid: of every object "patient", "study",
"series" and "image", "window" where values keep their meaning, and those of the source's modality."""

EMPTY: Mapping[str, tuple[str, ...]] = {
    "patient": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "study": ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    "series": ("PositionReferenceIndicator", "PatientPosition"),
    "CT": ("KVP", "AcquisitionNumber"),
    "MR": ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"),
    "PT": (
        *("CollimatorType", "CorrectedImage", "RadiopharmaceuticalInformationSequence"),
        *("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"),
        *("AcquisitionDate", "AcquisitionTime", "ActualFrameDuration"),
    ),
}
"""What the standard wants to be there and lets be empty (type 2): empty where the source lacks it."""

FILLED: Mapping[str, Mapping[str, object]] = {
    "MR": {"ScanningSequence": "RM", "SequenceVariant": "NONE"},
    "PT": {
        "Units": "NONE",
        "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"],
        "DecayCorrection": "NONE",
        "FrameReferenceTime": "0",
    },
}
"""What the standard wants to hold a value (type 1), and what stands where the source lacks it; a notice says so."""

_UNPAIRED = """ABDOMEN ABDOMENPELVIS AORTA BLADDER BRAIN CEREBELLUM CHEST CHESTABDOMEN CHESTABDPELVIS
    CIRCLEOFWILLIS COCCYX COLON CSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK HEART JAW
    LARYNX LIVER LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN
    NECKCHESTABDPELV NOSE PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SKULL SPINE SPLEEN SSPINE
    STERNUM STOMACH THYMUS THYROID TLSPINE TONGUE TRACHEA TSPINE UTERUS VAGINA VULVA WHOLEBODY"""
UNPAIRED = frozenset(_UNPAIRED.split())
"""Body parts (PS3.16 annex L) that have no side, so that Laterality must not be there; elsewhere it may be empty."""
